-- An alert may go on with the notification thread of one that was taken back (catalogue M.9).

ALTER TABLE ladder
    ADD COLUMN thread_id    uuid,                -- the alert whose thread it took over; NULL: the thread is its own
    ADD COLUMN took_over_at timestamptz,
    ADD CHECK ((thread_id IS NULL) = (took_over_at IS NULL));
CREATE INDEX ladder_thread ON ladder (thread_id) WHERE thread_id IS NOT NULL;
