import { AskedProgram, forkBeside } from "../child-program.ts";
import { cpuMsOf, peakBytesOf } from "../process-usage.ts";
import type { ControllerAnswers, ControllerParams } from "./controller-worker.ts";

/** A controller in a process of its own, so that its memory and its processor time are its own. */
export class ControllerProcess extends AskedProgram<ControllerAnswers> {
  static async start(params: ControllerParams): Promise<ControllerProcess> {
    const started = new ControllerProcess("the controller", forkBeside(import.meta.url, "controller-worker"));
    try {
      await started.ask("start", params);
      return started;
    } catch (error) {
      await started[Symbol.asyncDispose]();
      throw error;
    }
  }

  usage(): { readonly cpuMs: number; readonly residentBytes: number } {
    return { cpuMs: cpuMsOf(this.pid), residentBytes: peakBytesOf(this.pid) };
  }
}
