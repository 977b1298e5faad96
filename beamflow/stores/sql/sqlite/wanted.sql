-- The stretches to be read: of each arm its states, and the versions where the rows come by name.
WITH wanted (arm, state, version) AS MATERIALIZED (
  SELECT value ->> 0, value ->> 1, value ->> 2
  FROM json_each(:wanted)
)
