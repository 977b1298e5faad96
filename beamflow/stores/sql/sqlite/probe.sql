-- Of each state: how many rows meet each label, then the name; and how many the prefix. Counted up to :enough.
WITH RECURSIVE
  known (version) AS (
    SELECT min(version)
    FROM beamflow_workflows
    WHERE workflow = :workflow
    UNION ALL
    SELECT (SELECT min(version) FROM beamflow_workflows WHERE workflow = :workflow AND version > known.version)
    FROM known
    WHERE known.version IS NOT NULL
  ),
  met (state, place, number) AS (
    SELECT state.key, label.key, (
      SELECT count(*)
      FROM (
        SELECT 1
        FROM beamflow_labels AS c
        WHERE
          c.kind = label.value ->> 0 AND c.name = label.value ->> 1 AND c.value = label.value ->> 2
          AND c.state = state.value
          AND (c.started_at, c.id) > (:low_time, :low_id)
          AND (c.started_at, c.id) < (:high_time, :high_id)
        LIMIT :enough
      )
    )
    FROM json_each(:states) AS state
    CROSS JOIN json_each(:labels) AS label
    UNION ALL
    SELECT state.key, json_array_length(:labels), (
      SELECT count(*)
      FROM (
        SELECT 1
        FROM known
        CROSS JOIN beamflow_workflows AS c
        WHERE
          c.workflow = :workflow AND c.version = known.version
          AND known.version = coalesce(:version, known.version)
          AND c.state = state.value
          AND (c.started_at, c.id) > (:low_time, :low_id)
          AND (c.started_at, c.id) < (:high_time, :high_id)
        LIMIT :enough
      )
    )
    FROM json_each(:states) AS state
  )
SELECT json_array(
  json((SELECT json_group_array(json_array(state, place, number)) FROM met)),
  (
    SELECT count(*)
    FROM (SELECT 1 FROM beamflow_workflows WHERE id >= :prefix AND id < :prefix || char(0x10ffff) LIMIT :enough)
  )
)
