SELECT owner FROM beamflow_leases WHERE partition = 0
