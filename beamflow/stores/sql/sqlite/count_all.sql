SELECT json_group_object(state, number)
FROM (
  SELECT wanted.value AS state, (SELECT count(*) FROM beamflow_workflows AS w WHERE w.state = wanted.value) AS number
  FROM json_each(:states) AS wanted
)
WHERE number > 0
