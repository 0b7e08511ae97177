// The worker of examples/workers/python.

import { attend } from '../workers-attended.mjs';

attend('python');
