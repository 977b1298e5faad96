SELECT key, value FROM beamflow_meta
