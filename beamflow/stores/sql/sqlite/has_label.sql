      AND EXISTS (
        SELECT 1
        FROM beamflow_labels AS l
        WHERE l.id = c.id AND l.kind = :kind{label} AND l.name = :name{label} AND l.value = :value{label}
      )
