UPDATE beamflow_leases
SET owner = NULL
WHERE partition = 0 AND epoch = :epoch
RETURNING epoch
