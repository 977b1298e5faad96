DELETE FROM beamflow_labels
