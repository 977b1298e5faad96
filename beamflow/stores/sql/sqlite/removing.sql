SELECT json_group_array(json_array(stream, seq, json('true'))) FROM beamflow_removing
