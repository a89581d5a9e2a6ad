import { randomBytes } from "node:crypto";
import { succeed, until } from "./command.ts";

/** A network namespace of its own; its processes end and its links go with it. */
export class Namespace implements AsyncDisposable {
  readonly name: string = `ag${randomBytes(4).toString("hex")}`;

  static async create(): Promise<Namespace> {
    const namespace = new Namespace();
    await succeed(["ip", "netns", "add", namespace.name]).catch((cause: unknown) => {
      throw new Error("this test makes network namespaces: run it as root with iproute2 installed", {
        cause,
      });
    });
    await namespace.ip("link", "set", "lo", "up");
    return namespace;
  }

  /** In front of a command line that shall run here. */
  get enter(): readonly string[] {
    return ["ip", "netns", "exec", this.name];
  }

  ip(...args: readonly string[]): Promise<string> {
    return succeed(["ip", "-n", this.name, ...args]);
  }

  exec(...argv: readonly string[]): Promise<string> {
    return succeed([...this.enter, ...argv]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await until(`the processes in ${this.name} to end`, async () => {
      const pids = (await succeed(["ip", "netns", "pids", this.name])).split("\n").filter(Boolean);
      for (const pid of pids) {
        try {
          process.kill(Number(pid), "SIGKILL");
        } catch {
          // It has ended meanwhile.
        }
      }
      return pids.length === 0;
    });
    await succeed(["ip", "netns", "delete", this.name]);
  }
}
