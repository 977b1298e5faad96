-- The rows that are asked for, of one of the indexes; the first line is one of the fixed few of stores/sqlite/finding.py.
{source}
  AND (c.started_at, c.id) > (:low_time, :low_id)
  AND (c.started_at, c.id) < (:high_time, :high_id)
  AND (:prefix IS NULL OR substr(c.id, 1, length(:prefix)) = :prefix)
  AND (:workflow IS NULL OR EXISTS (
    SELECT 1
    FROM beamflow_workflows AS w
    WHERE w.id = c.id AND w.workflow = :workflow AND w.version = coalesce(:version, w.version)
  ))
  AND NOT EXISTS (
    SELECT 1
    FROM json_each(:labels) AS other
    WHERE NOT EXISTS (
      SELECT 1
      FROM beamflow_labels AS l
      WHERE
        l.id = c.id AND l.kind = other.value ->> 0 AND l.name = other.value ->> 1
        AND l.value = other.value ->> 2
    )
  )
