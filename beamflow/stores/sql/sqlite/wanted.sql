-- The stretches to be read: a state each, and a version each where the rows come by name (the last known is NULL).
WITH RECURSIVE
  known (version) AS (
    SELECT min(version)
    FROM beamflow_workflows
    WHERE workflow = :named
    UNION ALL
    SELECT (SELECT min(version) FROM beamflow_workflows WHERE workflow = :named AND version > known.version)
    FROM known
    WHERE known.version IS NOT NULL
  ),
  wanted (arm, state, version) AS MATERIALIZED (
    SELECT part.value ->> 0, part.value ->> 1, known.version
    FROM json_each(:wanted) AS part
    CROSS JOIN known
    WHERE iif(
      part.value ->> 0 = :named_arm, known.version = coalesce(:version, known.version), known.version IS NULL
    )
  )
