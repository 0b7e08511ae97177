//! The integration tests: one binary, real PostgreSQL, the real `jobql`.

mod embedded;
