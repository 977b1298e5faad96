SELECT kept
FROM beamflow_results
WHERE step = :step AND key = :key AND expires_at > :now
