UPDATE beamflow_meta SET value = :schema WHERE key = 'schema'
