SELECT json_group_object(state, number)
FROM (
  SELECT w.state, count(*) AS number
  FROM json_each(:states) AS wanted
  CROSS JOIN beamflow_workflows AS w ON w.state = wanted.value
  GROUP BY w.state
)
