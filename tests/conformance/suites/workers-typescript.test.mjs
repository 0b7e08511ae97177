// The worker of examples/workers/typescript.

import { attend } from '../workers-attended.mjs';

attend('typescript');
