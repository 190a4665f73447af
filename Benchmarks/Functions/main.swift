// Times the engine in this process: reads cases from standard input, one a line, and answers each
// with the seconds of its repetitions. Benchmarks/functions.py drives it, in turn with torch;
// Benchmarks/plugins.py gives it plugins' files as arguments, whose functions are there as well.
//
//   case FUNCTION GRADIENT(0|1) WORKERS(0: this thread) SECONDS OPERAND... ATTRIBUTE...
//     OPERAND: NAME:TYPE:SHAPE:LOW,HIGH or NAME:TYPE:SHAPE:signs, SHAPE 4096x1000 or -
//     ATTRIBUTE: NAME=VALUE
//   bounds BYTES
//   name
import Glibc
import LossdCatalogue
import LossdEngine
import LossdKernels
import LossdPluginHost

/// The case that was timed last: its tensors are kept for the next round.
nonisolated(unsafe) var kept: (key: String, item: PreparedCase)?

func answer(_ fields: [String], _ table: FunctionTable) throws -> String {
  switch fields.first {
  case "name": return Kernels.name
  case "bounds":
    guard fields.count == 2, let bytes = Int(fields[1]) else { return "error bad bounds" }
    return Bounds.measure(bytes: bytes)
  case "case":
    guard fields.count > 5, let budget = Double(fields[4]) else { return "error bad case" }
    let parts = Array(fields[1...3] + fields[5...])
    let key = parts.joined(separator: " ")
    if kept?.key != key {
      kept = nil
      guard let item = PreparedCase(parts, table) else { return "error bad case" }
      kept = (key, item)
    }
    guard let item = kept?.item else { return "error bad case" }
    return try item.seconds(budget: budget).map { "\($0)" }.joined(separator: " ")
  default: return "error what?"
  }
}

let registry = Registry()
try registry.add(cataloguePlugin())
for file in CommandLine.arguments.dropFirst() {
  _ = try PluginManager.load(file, into: registry)
}
while let line = readLine() {
  let fields = line.split(separator: " ").map(String.init)
  do { print(try answer(fields, registry.table)) } catch { print("error \(error)") }
  fflush(nil)
}
