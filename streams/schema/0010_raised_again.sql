-- An alert that is raised again before anybody confirmed it goes on with its climb.

ALTER TABLE ladder ADD COLUMN raised_at timestamptz;  -- the raising that the climb answers; NULL: that of its start
UPDATE ladder SET raised_at = took_over_at WHERE took_over_at IS NOT NULL;
