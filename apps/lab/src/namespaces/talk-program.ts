// Runs inside a VM: `listen` echoes what it hears; an ADDRESS is spoken to over one connection, and how often a line has come
// back is printed. A connection that breaks ends the program.
import { connect, createServer } from "node:net";

const port = 7;
const [where = ""] = process.argv.slice(2);
const fail = (error: Error): void => {
  console.error(error.message);
  process.exit(1);
};

if (where === "listen") {
  const server = createServer((socket) => {
    socket.on("error", fail);
    socket.pipe(socket);
  });
  server.listen(port, () => console.log("listening"));
} else {
  let rounds = 0;
  const socket = connect({ host: where, port, noDelay: true }, () => socket.write("."));
  socket.on("error", fail);
  socket.on("close", () => fail(new Error("the connection has ended")));
  socket.on("data", () => {
    console.log(++rounds);
    setTimeout(() => socket.write("."), 100);
  });
}
