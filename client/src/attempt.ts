/** Calls the application. What it throws is reported as uncaught, and keeps nothing from anybody else. */
export function attempt(call: () => void): void {
  try {
    call();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
