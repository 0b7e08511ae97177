import { useSignal } from '@preact/signals';
import { useEffect, useRef } from 'preact/hooks';
import { type WhySignedOut, signIn } from '../api/session';

const PROBLEMS: Record<WhySignedOut, string | null> = {
  asked: null,
  refused: 'The server does not take this token: it is wrong, expired or revoked.',
  ended: 'You were signed out: the token has expired or was revoked. Sign in with another one to go on here.',
};

export function SignIn({ why }: { why: WhySignedOut }) {
  const problem = PROBLEMS[why];
  const token = useSignal('');
  const remember = useSignal(false);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    document.title = 'Sign in · jobql';
    field.current?.focus();
  }, []);
  return (
    <section class="sign-in" aria-labelledby="title">
      <h1 id="title">Sign in</h1>
      <p>This server wants a token. Whoever runs it makes one with <code>jobql token create</code>.</p>
      <form
        onSubmit={(event) => {
          event.preventDefault();
          const given = token.value.trim();
          if (given) void signIn(given, remember.value);
        }}
      >
        <label class="field" for="token">
          Token
        </label>
        <input
          id="token"
          ref={field}
          type="password"
          required
          autocomplete="current-password"
          spellcheck={false}
          aria-invalid={why === 'refused'}
          aria-describedby={problem ? 'token-problem' : undefined}
          value={token}
          onInput={(event) => (token.value = event.currentTarget.value)}
        />
        {problem && (
          <p id="token-problem" class="field-problem" role="alert">
            {problem}
          </p>
        )}
        <label class="check-line">
          <input type="checkbox" checked={remember} onChange={(event) => (remember.value = event.currentTarget.checked)} />
          Remember it in this browser
        </label>
        <p class="muted hint">Otherwise it is forgotten when this tab is closed.</p>
        <button type="submit" class="button button-primary">
          Sign in
        </button>
      </form>
    </section>
  );
}
