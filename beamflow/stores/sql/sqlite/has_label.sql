      AND EXISTS (
        SELECT 1
        FROM beamflow_labels AS l INDEXED BY beamflow_labels_by_value
        WHERE
          l.kind = :kind{label} AND l.name = :name{label} AND l.value = :value{label}
          AND l.state = c.state AND l.started_at = c.started_at AND l.id = c.id
      )
