DROP TABLE queue;
DROP FUNCTION queue_announce();
