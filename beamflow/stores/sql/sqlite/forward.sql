
      AND (c.started_at, c.id) > (:low_time, :low_id)
      AND (c.started_at, c.id) <= (:high_time, :high_id)
