UPDATE beamflow_leases
SET expires_at = :expires_at, os_locked = :os_locked
WHERE partition = 0 AND epoch = :epoch AND owner IS NOT NULL
RETURNING epoch
