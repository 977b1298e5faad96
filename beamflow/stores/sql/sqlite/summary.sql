SELECT summary
FROM beamflow_summaries
WHERE id = :id
