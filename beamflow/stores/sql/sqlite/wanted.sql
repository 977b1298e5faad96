-- The stretches of the index to be read: a state each, and a version each where the rows come by name.
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
  wanted (state, version) AS MATERIALIZED (
    SELECT state.value, known.version
    FROM json_each(:states) AS state
    CROSS JOIN known
    WHERE iif(:named IS NULL, TRUE, known.version = coalesce(:version, known.version))
  )
