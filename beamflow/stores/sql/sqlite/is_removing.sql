SELECT seq FROM beamflow_removing WHERE stream = :stream
