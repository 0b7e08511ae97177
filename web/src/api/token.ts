// The token that one signed in with. Both pages use it: the dashboard and GraphiQL.

const KEY = 'jobql.token';

/** The one of this tab goes before the one that is remembered. */
export function storedToken(): string | null {
  try {
    return sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
  } catch {
    return null;
  }
}

export function storeToken(token: string, remember: boolean): void {
  forgetToken();
  try {
    (remember ? localStorage : sessionStorage).setItem(KEY, token);
  } catch {
    // A browser that stores nothing still works until the page is left.
  }
}

export function forgetToken(): void {
  try {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
  } catch {
    // Nothing was stored.
  }
}
