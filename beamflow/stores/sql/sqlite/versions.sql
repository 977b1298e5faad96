-- One look into the index for each version (the last known is NULL).
WITH RECURSIVE known (version) AS (
  SELECT min(version)
  FROM beamflow_workflows
  WHERE workflow = :workflow
  UNION ALL
  SELECT (SELECT min(version) FROM beamflow_workflows WHERE workflow = :workflow AND version > known.version)
  FROM known
  WHERE known.version IS NOT NULL
)
SELECT json_group_array(version)
FROM known
WHERE version IS NOT NULL
