-- Whether a reading came through a clinic's gateway: a programming session in it is an authorised one, also when its
-- history is judged again. Not part of v_reading, which shows what the pump said.
ALTER TABLE reading ADD COLUMN clinic boolean NOT NULL DEFAULT false;
