UPDATE beamflow_leases
SET owner = :owner, epoch = epoch + 1, expires_at = :expires_at, os_locked = :os_locked
WHERE partition = 0 AND (owner IS NULL OR expires_at <= :now OR (os_locked AND :owner_is_dead))
RETURNING epoch
