{wanted}
SELECT json_group_object(state, number)
FROM (
  SELECT state, sum(number) AS number
  FROM (
{arms}
  )
  GROUP BY state
)
