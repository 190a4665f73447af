import ArgumentParser
import Glibc
import LossdClient
import LossdFiles
import LossdSocket
import LossdTensor
import LossdThreads
import LossdWire
import Synchronization

/// lossctl bench [FUNCTION]
struct Bench: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure calls a second and how long they take.",
    discussion: """
      Calls one function over and over, with made-up numbers. Without --rate a call begins when another has been \
      answered, so that a slow daemon is asked less; with it calls begin at that rate and are measured from when \
      they were due. What the daemon does besides, and what this command itself takes, is in the result. Where the \
      daemon is restarted meanwhile, calls without an answer have failed, the connections are made again, and the result \
      says so; a daemon that is not there at the end, or stays away for 5 s, makes the status 69.
      """)

  @OptionGroup var server: ServerOption
  @OptionGroup var limit: AnswerLimit

  @Argument(help: "The function.", completion: functionNames)
  var function = "cross_entropy"

  @Option(
    help: ArgumentHelp("Of the input, such as 256x50257; 1x10.", valueName: "shape"))
  var shape = "1x10"

  @Option(
    help: ArgumentHelp("float32, float64, float16 or bfloat16.", valueName: "type"),
    completion: .list(["float32", "float64", "float16", "bfloat16"]))
  var dtype = "float32"

  @Option(
    help: ArgumentHelp(
      "An attribute, such as reduction=sum; may be repeated.", valueName: "name=value"))
  var attr: [String] = []

  @Option(
    help: ArgumentHelp(
      "An input from a file in place of a made-up one; may be repeated.", valueName: "name=file"))
  var tensor: [String] = []

  @Option(
    help: ArgumentHelp(
      "Results wanted, with commas, such as loss,grad.input; the function's own by default.",
      valueName: "names"))
  var want: String?

  @Flag(help: "The gradient of the input as well.")
  var gradient = false

  @Option(
    help: ArgumentHelp(
      "Calls at once on a connection; 1, or with --rate what the daemon allows.", valueName: "n"))
  var depth: Int?

  @Option(help: ArgumentHelp("Connections.", valueName: "n"))
  var connections = 1

  @Option(help: ArgumentHelp("Threads that the connections are dealt out to.", valueName: "n"))
  var threads = 1

  @Option(help: ArgumentHelp("Calls a second to begin, on all connections.", valueName: "n"))
  var rate: Double?

  @Option(help: ArgumentHelp("How long to measure.", valueName: "seconds"))
  var duration = 5.0

  @Option(help: ArgumentHelp("How long to call before that.", valueName: "seconds"))
  var warmUp = 1.0

  @Flag(help: "Print JSON.")
  var json = false

  func run() async throws {
    try await reporting {
      try check()
      let client = try server.client()
      defer { client.close() }
      let (description, hello, daemon) = try await limit.whileWaiting(for: client.address) {
        guard let description = try await client.functions(named: function).first else {
          throw Complaint("the daemon has no function \(function)")
        }
        return (description, try await client.hello(), try await daemonProcess(client))
      }
      let plan = BenchPlan(
        connections: connections, threads: threads,
        depth: depth ?? (rate == nil ? 1 : Int(hello.maxStreams)), rate: rate ?? 0,
        warmUp: UInt64(warmUp * 1e9), duration: UInt64(duration * 1e9))
      if plan.depth > Int(hello.maxStreams) {
        throw Complaint(
          "--depth \(plan.depth): the daemon allows \(hello.maxStreams) calls at once on a "
            + "connection",
          status: 64)
      }
      let template = try await template(client, description)
      let report = try measure(client.address, template, plan, daemon)
      print(json ? report.json.text : report.text)
      if let loss = report.tally.firstLoss, report.isGone {
        throw Complaint("\(client.address): \(loss), and the daemon has not come back", status: 69)
      }
      if report.rate == 0 { throw ExitCode(1) }
    }
  }

  private func check() throws {
    for (name, value, range) in [
      ("--depth", depth ?? 1, 1...100_000), ("--connections", connections, 1...100_000),
      ("--threads", threads, 1...1024),
    ] where !range.contains(value) {
      throw Complaint(
        "\(name) \(value): expected \(range.lowerBound) to \(range.upperBound)", status: 64)
    }
    if threads > connections {
      throw Complaint("--threads \(threads): there are \(connections) connections", status: 64)
    }
    guard duration >= 0.1 && duration <= 3600 && warmUp >= 0 && warmUp <= 3600 else {
      throw Complaint("--duration is from 0.1 to 3600 seconds, --warm-up up to 3600", status: 64)
    }
    if let rate, !(rate > 0 && rate <= 1e7) {
      throw Complaint("--rate \(rate): expected calls a second, up to 10,000,000", status: 64)
    }
  }

  // MARK: - The call

  /// Made of the first inputs that the daemon takes.
  private func template(
    _ client: Client, _ description: FunctionDescription
  ) async throws -> BenchTemplate {
    guard let sizes = [Int](shape: shape) else {
      throw Complaint("--shape \(shape): expected sizes such as 256x50257", status: 64)
    }
    guard let type = DataType(name: dtype), type.isFloatingPoint else {
      throw Complaint(
        "--dtype \(dtype): expected float32, float64, float16 or bfloat16", status: 64)
    }
    let files = try namedArguments(tensor, "--tensor").map {
      (name: $0.name, tensor: try TensorFile.tensor(at: $0.value).tensor())
    }
    var outputs = want?.split(separator: ",").map { $0.trimmed } ?? []
    if gradient && outputs.isEmpty {
      outputs =
        description.outputs.filter(\.isDefault).map(\.name) + [
          "grad.\(description.inputs.first?.name ?? "input")"
        ]
    }
    let attributes = try attributeValues(try namedArguments(attr, "--attr"), of: description)
    var failure: StatusError?
    for target in BenchInputs.Target.allCases {
      let inputs = try BenchInputs(description, sizes, type, target, files)
      do {
        _ = try await limit.whileWaiting(for: client.address) {
          try await client.evaluate(
            function, inputs: inputs.tensors,
            options: EvaluationOptions(attributes: attributes, outputs: outputs))
        }
      } catch let error as StatusError {
        // What is wrong with the first is what most functions would say of the second too.
        failure = failure ?? error
        continue
      }
      return try BenchTemplate(
        function, inputs.tensors, attributes.map { (name: $0.key, value: $0.value) }, outputs)
    }
    throw failure ?? StatusError(.internal, "no inputs")
  }

  // MARK: - Measuring

  private func measure(
    _ address: Address, _ template: BenchTemplate, _ plan: BenchPlan, _ daemon: Int32?
  ) throws -> BenchReport {
    // Dealt out in turn.
    var dealt = Array(repeating: [BenchConnection](), count: plan.threads)
    for index in 0..<plan.connections {
      dealt[index % plan.threads].append(
        try BenchConnection(address, template, depth: plan.depth))
    }
    let start = monotonicNanoseconds() + 1_000_000
    let meter = BenchMeter(
      daemon, from: start + plan.warmUp, until: start + plan.warmUp + plan.duration)
    let failure = Mutex<(any Error)?>(nil)
    let gone = Mutex(false)
    let done = Semaphore()
    for (index, connections) in dealt.enumerated() {
      let confined = ThreadConfined(connections)
      startThread {
        do {
          let run = BenchRun(confined.value, plan, start: start)
          // The threads' calls fall between each other's.
          let interval = plan.rate > 0 ? 1e9 / plan.rate : 0
          let isThere =
            plan.rate > 0
            ? try run.runOpen(
              interval: interval * Double(plan.threads), offset: interval * Double(index))
            : try run.runClosed()
          if !isThere { gone.withLock { $0 = true } }
        } catch { failure.withLock { $0 = $0 ?? error } }
        done.signal()
      }
    }
    let processors = meter.measure { failure.withLock { $0 != nil } || gone.withLock { $0 } }
    for _ in dealt { done.wait() }
    let isGone = gone.withLock { $0 }
    // Of a daemon that stayed away the rate is that of the time until then.
    let ended = isGone ? min(monotonicNanoseconds(), start + plan.warmUp + plan.duration) : nil
    let measured = ended.map { $0 > start + plan.warmUp ? $0 - start - plan.warmUp : 0 }
    if let failure = failure.withLock({ $0 }) { throw failure }
    var tally = BenchTally()
    for connection in dealt.joined() { tally.add(connection.tally) }
    return BenchReport(
      title: "\(function) of \(dtype) \(shape)\(gradient ? " with gradient" : "") at \(address)",
      plan: plan, measured: measured ?? plan.duration, isGone: isGone,
      callBytes: template.byteCount, tally: tally, processors: processors)
  }

  /// The daemon's process, where it is on this machine.
  private func daemonProcess(_ client: Client) async throws -> Int32? {
    switch client.address {
    case .unix: break
    case .tcp(let host, _):
      guard host == "localhost" || host == "::1" || host.hasPrefix("127.") else { return nil }
    }
    return Int32(exactly: try await client.status().processID)
  }
}

/// Hands a value to the one thread that uses it from then on, until that has ended.
///
/// `@unchecked Sendable`: never used by two threads at once.
private struct ThreadConfined<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}
