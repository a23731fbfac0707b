/**
 * Values that may be there already.
 *
 * @module
 */

/** A value, now or later. */
export type Awaitable<T> = T | Promise<T>;

/** Goes on with a value, at once when it is there. */
export function chain<T, U>(value: Awaitable<T>, next: (value: T) => Awaitable<U>): Awaitable<U> {
  return value instanceof Promise ? value.then(next) : next(value);
}
