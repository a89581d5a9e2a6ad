import { counted } from "@cocoon-net/core";
/** A terminal that a command may draw on. */
export interface Screen {
  readonly columns: number;
  readonly rows: number;
  write(text: string): void;
}

const enter = "\x1b[?1049h\x1b[?25l";
const leave = "\x1b[?25h\x1b[?1049l";

/**
 * Draws pictures over one another on the terminal's other screen, which leaves what was there before untouched. Only
 * the ends of lines are cleared, so that nothing flickers.
 */
export class LiveScreen implements Disposable {
  readonly #screen: Screen;

  constructor(screen: Screen) {
    this.#screen = screen;
    screen.write(enter);
  }

  /** Shows as much of the text as fits, and the status in the last line. */
  draw(text: string, status: string): void {
    const { columns, rows } = this.#screen;
    const lines = text.split("\n");
    const room = rows - 1;
    const shown = lines.length <= room ? lines : lines.slice(0, room - 1);
    const hidden = lines.length - shown.length;
    const last = hidden > 0 ? [`… ${counted(hidden, "more line")}`] : [];
    const blank = Array.from({ length: room - shown.length - last.length }, () => "");
    const all = [...shown, ...last, ...blank, status].map((line) => `${line.slice(0, columns)}\x1b[K`);
    this.#screen.write(`\x1b[H${all.join("\r\n")}\x1b[J`);
  }

  [Symbol.dispose](): void {
    this.#screen.write(leave);
  }
}
