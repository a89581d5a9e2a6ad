/** Disposes what it holds, last first. The standard `AsyncDisposableStack`, which Node 22 does not have yet. */
export class DisposeStack implements AsyncDisposable {
  #items: (() => void | PromiseLike<void>)[] = [];

  use<T extends AsyncDisposable>(item: T): T {
    this.#items.push(() => item[Symbol.asyncDispose]());
    return item;
  }

  defer(dispose: () => void | PromiseLike<void>): void {
    this.#items.push(dispose);
  }

  /** Hands everything over to a new stack; this one then holds nothing. */
  move(): DisposeStack {
    const moved = new DisposeStack();
    moved.#items = this.#items;
    this.#items = [];
    return moved;
  }

  /** Everything is disposed, also when one of them fails. @throws the first failure. */
  async [Symbol.asyncDispose](): Promise<void> {
    const failures: unknown[] = [];
    for (let item = this.#items.pop(); item; item = this.#items.pop()) {
      try {
        await item();
      } catch (error) {
        failures.push(error);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}
