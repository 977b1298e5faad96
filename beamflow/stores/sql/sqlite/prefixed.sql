SELECT count(*)
FROM (
  SELECT 1
  FROM beamflow_workflows
  WHERE id >= :prefix AND id < :prefix || char(0x10ffff)
  LIMIT :prefixed
)
