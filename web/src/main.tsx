import { render } from 'preact';
import { startSession } from './api/session';
import { App } from './app';
import './ui/theme';

void startSession();
const root = document.getElementById('app');
if (root) render(<App />, root);
