SELECT name FROM sqlite_schema WHERE name GLOB 'beamflow_*'
