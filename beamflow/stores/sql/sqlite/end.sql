SELECT coalesce(max(seq), 0)
FROM beamflow_events
WHERE stream = :stream
