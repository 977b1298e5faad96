    SELECT c.state AS state, count(*) AS number
    FROM wanted
    CROSS JOIN {matching}
      AND wanted.arm = {arm}
    GROUP BY c.state
