DROP TABLE kind_duration;
