-- How many rows each condition is met by: of the labels, of the name, of the prefix; counted up to :enough.
SELECT json_array(
  (
    SELECT json_group_array((
      SELECT count(*)
      FROM (
        SELECT 1
        FROM beamflow_labels
        WHERE
          kind = label.value ->> 0 AND name = label.value ->> 1 AND value = label.value ->> 2
          AND state IN (SELECT value FROM json_each(:states))
        LIMIT :enough
      )
    ))
    FROM json_each(:labels) AS label
  ),
  (SELECT count(*) FROM (SELECT 1 FROM beamflow_workflows WHERE workflow = :workflow LIMIT :enough)),
  (
    SELECT count(*)
    FROM (SELECT 1 FROM beamflow_workflows WHERE id >= :prefix AND id < :prefix || char(0x10ffff) LIMIT :enough)
  )
)
