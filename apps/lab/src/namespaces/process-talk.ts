import type { Talk } from "../world.ts";
import type { LabProcess } from "./processes.ts";

/** Two processes in the VMs; the one that speaks writes a line whenever it has heard an answer. */
export class ProcessTalk implements Talk {
  readonly #speaker: LabProcess;
  readonly #listener: LabProcess;
  #rounds = 0;
  readonly #reading: NodeJS.Timeout;

  constructor(speaker: LabProcess, listener: LabProcess) {
    this.#speaker = speaker;
    this.#listener = listener;
    this.#reading = setInterval(() => {
      void speaker.tail(1).then(([line]) => {
        const count = Number(line);
        if (Number.isInteger(count)) this.#rounds = count;
      });
    }, 50);
  }

  get rounds(): number {
    return this.#rounds;
  }

  get failure(): string | undefined {
    return this.#speaker.ended ?? this.#listener.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#reading);
    await this.#speaker.kill();
    await this.#listener.kill();
  }
}
