{wanted}
SELECT json_group_object(state, number)
FROM (
  SELECT c.state, count(*) AS number
  FROM wanted
  CROSS JOIN {matching}
  GROUP BY c.state
)
