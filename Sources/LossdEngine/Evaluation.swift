import CLossdPlugin
import Glibc
import LossdTensor
import Synchronization

/// One call of a function: set up, planned, run in chunks, finished. Reusable after `begin`.
///
/// `@unchecked Sendable`: one thread at a time sets it up, plans and finishes it; in between,
/// chunks run on several threads, each writing its own slot of `chunkSums` and its own part of the
/// outputs, and the workers' lock orders one phase before the next.
public final class Evaluation: Queued, @unchecked Sendable {
  public private(set) var entry: FunctionEntry
  /// Outputs asked for, in the order of the request.
  public private(set) var wantedOutputs: [Int] = []
  /// Samples in this batch, as plan said.
  public private(set) var rows = 0
  /// Bytes of memory for all results, each at a multiple of 64.
  public private(set) var resultBytes = 0
  /// As many of them as stand in the response's payload.
  public private(set) var payloadBytes = 0
  /// Through all results, wherever they go, as they are counted for clearing.
  private(set) var layoutBytes = 0
  public private(set) var workspaceBytes = 0
  public private(set) var scratchBytes = 0
  /// Estimated work, nanoseconds.
  public private(set) var cost = 0.0
  /// The sums over all chunks, once it has run.
  public internal(set) var accumulator = Accumulator(fields: 0)

  let inputs: UnsafeMutablePointer<lossd_tensor>
  let outputs: UnsafeMutablePointer<lossd_tensor>
  let attributes: UnsafeMutablePointer<lossd_value>
  let call: UnsafeMutablePointer<lossd_call>
  let plan: UnsafeMutablePointer<lossd_plan>
  private(set) var planned: UnsafeMutablePointer<lossd_planned_output>
  private var plannedCapacity = 4
  private let state: UnsafeMutableRawPointer
  let totals: UnsafeMutablePointer<Double>
  let values: UnsafeMutablePointer<Double>
  private var text: [UnsafeMutablePointer<CChar>] = []
  private(set) var offsets: [Int] = []
  /// Inputs, by bit, whose memory is this call's alone, so that a result may take its place: to be
  /// set before the plan is made.
  public var ownInputs: UInt64 = 0
  /// Results that take the place of an input: their places in the request, and the inputs'.
  public private(set) var overwrites: [(position: Int, input: Int)] = []
  /// Results that go to memory that the request names: their places in the request, and where to.
  public private(set) var placements: [Placement] = []
  /// Inputs that somebody else may change at any time: they are copied before anything looks at
  /// them.
  var copies: [(input: Int, from: UnsafeRawPointer)] = []

  /// Where one result goes, bytes.
  public struct Placement {
    public var position: Int
    public var base: UnsafeMutableRawPointer
    public var count: Int
  }

  var stages: [Stage] = []
  // Raw memory, since several threads write different slots of it at the same time.
  private(set) var sumsBase: UnsafeMutablePointer<Double>
  private var sums = AlignedBuffer(count: 16 * MemoryLayout<Double>.stride)
  var workspace: AlignedBuffer?
  /// Where the results go, once it is bound.
  var results: UnsafeMutableRawPointer?

  /// Outputs are cleared when they get their memory.
  var clearsAtBind = false

  // Progress, under the workers' lock while they have it.
  /// Its place among those that wait for a worker.
  var links = Links<Evaluation>()
  /// It waits only to end.
  var isEnding = false
  /// Whose turn it waits for; nil: no worker has it to do.
  var group: WorkGroup?
  var stage = 0
  /// The chunks of the stage that may run now, and the next of them to hand out.
  var firstChunk = 0
  var chunkEnd = 0
  var nextChunk = 0
  var outstanding = 0
  var failure: (stage: Int, chunk: Int, error: StatusError)?
  var completion: (@Sendable (Evaluation) -> Void)?
  /// What a worker is to do before, or in place of, the chunks.
  typealias Task = @Sendable (Evaluation, AlignedBuffer) throws(StatusError) -> Void
  var task: Task?
  /// A worker adds up a stage's sums, or finishes.
  var isSettling = false
  /// Everything has been computed: the results are there.
  public internal(set) var isComputed = false
  /// Monotonic nanoseconds after which no further chunk starts; `.max`: none.
  public var deadline = UInt64.max
  let stopped = Atomic<Bool>(false)
  /// A word that says, by a number, which call is the last that is to stop; and this call's number.
  var stopOrder: (word: UnsafePointer<UInt64>, number: UInt64)?

  /// For the arrays of a call. In pages apart from malloc's heap, where those of thousands of calls
  /// that are over would stay.
  private static let memoryBytes = 16 << 10
  private let memory = PageBlock(Evaluation.memoryBytes)

  /// Arrays one behind another, each at a multiple of 64 bytes.
  private struct Layout {
    let base: UnsafeMutableRawPointer
    private(set) var end = 0

    init(_ base: UnsafeMutableRawPointer) { self.base = base }

    mutating func place(byteCount: Int) -> UnsafeMutableRawPointer {
      defer { end = (end + byteCount + 63) & ~63 }
      return base + end
    }

    mutating func place<Element>(_ count: Int) -> UnsafeMutablePointer<Element> {
      place(byteCount: count * MemoryLayout<Element>.stride)
        .bindMemory(to: Element.self, capacity: count)
    }
  }

  public init(_ entry: FunctionEntry) {
    self.entry = entry
    var layout = Layout(memory.base)
    inputs = layout.place(Int(LOSSD_INPUTS_MAX))
    outputs = layout.place(Int(LOSSD_OUTPUTS_MAX))
    attributes = layout.place(Int(LOSSD_ATTRIBUTES_MAX))
    // The call carries a pointer to this object behind itself, for `cancelled`.
    let bytes = MemoryLayout<lossd_call>.stride + MemoryLayout<UnsafeRawPointer>.stride
    let callMemory = layout.place(byteCount: bytes)
    call = callMemory.bindMemory(to: lossd_call.self, capacity: 1)
    plan = layout.place(1)
    planned = .allocate(capacity: plannedCapacity)
    // In malloc's heap: what a library writes behind its state is then seen by malloc, in time to
    // say whom to suspect.
    state = .allocate(byteCount: Int(LOSSD_STATE_BYTES_MAX), alignment: 64)
    totals = layout.place(Int(LOSSD_ACCUMULATORS_MAX))
    values = layout.place(Int(LOSSD_VALUES_MAX))
    precondition(layout.end <= Evaluation.memoryBytes)
    sumsBase = sums.base.assumingMemoryBound(to: Double.self)
    call.initialize(to: lossd_call())
    plan.initialize(to: lossd_plan())
    // Unretained: the call's memory is freed in deinit and so never outlives this object.
    (callMemory + MemoryLayout<lossd_call>.stride).storeBytes(
      of: UnsafeRawPointer(Unmanaged.passUnretained(self).toOpaque()), as: UnsafeRawPointer.self)
    begin(entry)
  }

  deinit {
    freeText()
    planned.deallocate()
    state.deallocate()
  }

  private func freeText() {
    for text in text { free(text) }
    text.removeAll(keepingCapacity: true)
  }

  /// Starts over for a call of `entry`: no inputs, attributes at their defaults, nothing wanted.
  public func begin(_ entry: FunctionEntry) {
    self.entry = entry
    freeText()
    wantedOutputs.removeAll(keepingCapacity: true)
    for index in 0..<entry.inputs.count { inputs[index] = lossd_tensor() }
    for index in 0..<entry.outputs.count { outputs[index] = lossd_tensor() }
    for index in 0..<entry.attributes.count {
      attributes[index] = entry.attributes[index].default_value
    }
    if entry.outputs.count > plannedCapacity {
      planned.deallocate()
      plannedCapacity = entry.outputs.count
      planned = .allocate(capacity: plannedCapacity)
    }
    call.pointee = lossd_call(
      struct_size: UInt32(MemoryLayout<lossd_call>.size), reserved: 0, host: Host.table,
      function: entry.function, inputs: inputs, outputs: outputs, attributes: attributes,
      wanted: 0, state: state, workspace: nil, totals: totals)
    workspace = nil
    results = nil
    ownInputs = 0
    placements.removeAll(keepingCapacity: true)
    copies.removeAll(keepingCapacity: true)
    failure = nil
    completion = nil
    task = nil
    isSettling = false
    isComputed = false
    deadline = .max
    stopped.store(false, ordering: .relaxed)
    stopOrder = nil
  }

  /// Starts the same call again: request, plan and memory stay, elements may be others.
  public func rewind() {
    workspace = nil
    results = nil
    failure = nil
    completion = nil
    task = nil
    isSettling = false
    isComputed = false
    deadline = .max
    stage = 0
    stopped.store(false, ordering: .relaxed)
  }

  /// Erases what this holds of the call, but for its inputs and results: who computes for many
  /// leaves nothing of one to the next.
  public func erase() {
    for value in 0..<entry.attributes.count {
      let value = attributes[value]
      guard value.kind == UInt32(LOSSD_VALUE_STRING), let text = value.as.string,
        self.text.contains(where: { UnsafePointer($0) == text })
      else { continue }
      UnsafeMutableRawPointer(mutating: text).initializeMemory(
        as: UInt8.self, repeating: 0, count: Int(value.length))
    }
    clearBytes(state, Int(entry.function.pointee.state_bytes))
    planned.initialize(repeating: lossd_planned_output(), count: plannedCapacity)
    clearBytes(sums.base, sums.count)
    totals.initialize(repeating: 0, count: Int(LOSSD_ACCUMULATORS_MAX))
    accumulator.reset(fields: entry.accumulatorCount)
    if let workspace {
      workspace.base.initializeMemory(
        as: UInt8.self, repeating: 0, count: min(workspaceBytes, workspace.count))
    }
  }

  /// Starts a new call with the function, attributes and outputs of another, which must stay alive.
  public func begin(like other: Evaluation) {
    begin(other.entry)
    for index in 0..<entry.attributes.count { attributes[index] = other.attributes[index] }
    wantedOutputs = other.wantedOutputs
    call.pointee.wanted = other.call.pointee.wanted
  }

  /// Asks it to stop between two chunks, or, where a function asks, within one. Any thread. One
  /// that may wait for a worker ends sooner by `WorkerThreads.stop`.
  public func stop() { stopped.store(true, ordering: .relaxed) }

  // MARK: - Setting up

  /// Sets the input of this name. The tensor's memory, shape included, is borrowed until the end.
  public func setInput(
    _ name: UnsafeRawBufferPointer, _ tensor: TensorView
  ) throws(StatusError) {
    guard let index = entry.input(named: name) else {
      let names = entry.inputs.map { String(cString: $0.name) }
      throw invalid(
        "no input named `\(printable(name))`; it takes \(list(names))"
          + didYouMean(printable(name), among: names))
    }
    try setInput(index, tensor)
  }

  /// Sets the input at this place of the declaration.
  public func setInput(_ index: Int, _ tensor: TensorView) throws(StatusError) {
    var name: String { String(cString: entry.inputs[index].name) }
    guard inputs[index].data_type == 0 else { throw invalid("the input `\(name)` is given twice") }
    guard entry.inputs[index].data_types & (1 << tensor.dataType.rawValue) != 0 else {
      let types = DataType.allCases.filter {
        entry.inputs[index].data_types & (1 << $0.rawValue) != 0
      }
      throw invalid(
        "\(name) is \(tensor.dataType), expected \(list(types.map(\.description)))")
    }
    inputs[index] = lossd_tensor(
      data: tensor.data, shape: tensor.shape.baseAddress, element_count: Int64(tensor.count),
      rank: UInt32(tensor.rank), data_type: tensor.dataType.rawValue)
  }

  /// Sets an input whose elements are to be copied from `source` to the tensor's memory, before
  /// anything looks at them.
  public func setInput(
    _ index: Int, _ tensor: TensorView, copiedFrom source: UnsafeRawPointer
  ) throws(StatusError) {
    try setInput(index, tensor)
    copies.append((index, source))
  }

  /// The same elements, which have been copied elsewhere.
  public func moveInput(_ index: Int, to base: UnsafeMutableRawPointer) {
    inputs[index].data = base
  }

  /// The result at this place of the request goes to this memory, which it fills exactly.
  public func place(_ position: Int, at base: UnsafeMutableRawPointer, count: Int) {
    placements.append(Placement(position: position, base: base, count: count))
  }

  /// The input at this place of the declaration; nil when it was not set.
  public func inputView(_ index: Int) -> TensorView? {
    let raw = inputs[index]
    guard let type = DataType(rawValue: raw.data_type) else { return nil }
    return TensorView(
      data: raw.data, shape: UnsafeBufferPointer(start: raw.shape, count: Int(raw.rank)),
      count: Int(raw.element_count), dataType: type)
  }

  public func hasInput(_ index: Int) -> Bool { inputs[index].data_type != 0 }

  /// Sets the attribute of this name; an int is taken where a float is declared.
  public func setAttribute(
    _ name: UnsafeRawBufferPointer, _ value: AttributeArgument
  ) throws(StatusError) {
    guard let index = entry.attribute(named: name) else {
      let names = entry.attributes.map { String(cString: $0.name) }
      throw invalid(
        "no attribute named `\(printable(name))`; it takes \(list(names))"
          + didYouMean(printable(name), among: names))
    }
    try setAttribute(index, value)
  }

  /// Sets the attribute at this place of the declaration.
  public func setAttribute(_ index: Int, _ value: AttributeArgument) throws(StatusError) {
    let declared = entry.attributes[index]
    guard let converted = try convert(value, to: declared.type) else {
      throw invalid(
        "the attribute \(String(cString: declared.name)) is \(value.kindText), expected "
          + AttributeArgument.kindText(declared.type))
    }
    try check(converted, declared)
    attributes[index] = converted
  }

  /// Asks for the output of this name.
  public func want(_ name: UnsafeRawBufferPointer) throws(StatusError) {
    guard let index = entry.output(named: name) else {
      let names = entry.outputs.filter { $0.flags & UInt32(LOSSD_OUTPUT_UNIMPLEMENTED) == 0 }
        .map { String(cString: $0.name) }
      throw invalid(
        "no output named `\(printable(name))`; it gives \(list(names))"
          + didYouMean(printable(name), among: names))
    }
    try want(index)
  }

  /// Asks for the output at this place of the declaration.
  public func want(_ index: Int) throws(StatusError) {
    let declared = entry.outputs[index]
    guard declared.flags & UInt32(LOSSD_OUTPUT_UNIMPLEMENTED) == 0 else {
      throw StatusError(
        .unimplemented,
        "\(entry.name): \(String(cString: declared.name)): \(String(cString: declared.help))")
    }
    guard call.pointee.wanted & (1 << UInt64(index)) == 0 else {
      throw invalid("the output `\(String(cString: declared.name))` is asked for twice")
    }
    call.pointee.wanted |= 1 << UInt64(index)
    wantedOutputs.append(index)
  }

  public func wantDefault() {
    let index = entry.defaultOutput
    call.pointee.wanted = 1 << UInt64(index)
    wantedOutputs.removeAll(keepingCapacity: true)
    wantedOutputs.append(index)
  }

  private func convert(
    _ value: AttributeArgument, to type: UInt32
  ) throws(StatusError) -> lossd_value? {
    var result = lossd_value()
    result.kind = type
    switch (value, type) {
    case (.bool(let bool), UInt32(LOSSD_VALUE_BOOL)): result.as.integer = bool ? 1 : 0
    case (.int(let int), UInt32(LOSSD_VALUE_INT)): result.as.integer = int
    case (.int(let int), UInt32(LOSSD_VALUE_FLOAT)): result.as.floating = Double(int)
    case (.float(let float), UInt32(LOSSD_VALUE_FLOAT)): result.as.floating = float
    case (.string(let bytes), UInt32(LOSSD_VALUE_STRING)):
      guard let length = UInt32(exactly: bytes.count), let memory = malloc(bytes.count + 1) else {
        throw AlignedBuffer.exhausted(bytes.count)
      }
      let copy = memory.bindMemory(to: CChar.self, capacity: bytes.count + 1)
      for index in 0..<bytes.count { copy[index] = CChar(bitPattern: bytes[index]) }
      copy[bytes.count] = 0
      text.append(copy)
      result.length = length
      result.as.string = UnsafePointer(copy)
    default: return nil
    }
    return result
  }

  private func check(_ value: lossd_value, _ declared: lossd_attribute) throws(StatusError) {
    let name = String(cString: declared.name)
    switch Int32(value.kind) {
    case LOSSD_VALUE_INT:
      let number = value.as.integer
      if declared.minimum.kind != 0 && number < declared.minimum.as.integer
        || declared.maximum.kind != 0 && number > declared.maximum.as.integer
      {
        throw invalid("\(name) is \(number), outside \(range(declared))")
      }
    case LOSSD_VALUE_FLOAT:
      let number = value.as.floating
      if declared.minimum.kind != 0 && !(number >= declared.minimum.as.floating)
        || declared.maximum.kind != 0 && !(number <= declared.maximum.as.floating)
      {
        throw invalid("\(name) is \(number), outside \(range(declared))")
      }
    case LOSSD_VALUE_STRING:
      guard let choices = declared.choices else { return }
      let bytes = UnsafeRawBufferPointer(start: value.as.string, count: Int(value.length))
      var names: [String] = []
      var index = 0
      while let choice = choices[index] {
        if matches(choice, bytes) { return }
        names.append(String(cString: choice))
        index += 1
      }
      throw invalid("\(name) is `\(printable(bytes))`, expected \(list(names))")
    default: return
    }
  }

  private func range(_ declared: lossd_attribute) -> String {
    func text(_ value: lossd_value, _ none: String) -> String {
      if value.kind == 0 { return none }
      return value.kind == UInt32(LOSSD_VALUE_INT)
        ? "\(value.as.integer)" : "\(value.as.floating)"
    }
    return "[\(text(declared.minimum, "-inf")), \(text(declared.maximum, "inf"))]"
  }

  func invalid(_ text: String) -> StatusError {
    StatusError(.invalidArgument, "\(entry.name): \(text)")
  }

  /// Zeroed slots for the sums of a stretch's chunks.
  func prepareSums(_ count: Int) throws(StatusError) {
    let bytes = count * MemoryLayout<Double>.stride
    if bytes > sums.count {
      sums = try AlignedBuffer(reserving: bytes)
      sumsBase = sums.base.assumingMemoryBound(to: Double.self)
    }
    sumsBase.initialize(repeating: 0, count: count)
  }

  /// Clears what plan writes, for `makePlan`.
  func clearPlan() {
    clearBytes(state, Int(entry.function.pointee.state_bytes))
    planned.initialize(repeating: lossd_planned_output(), count: max(entry.outputs.count, 1))
    plan.pointee = lossd_plan()
    plan.pointee.struct_size = UInt32(MemoryLayout<lossd_plan>.size)
    plan.pointee.outputs = planned
    for index in 0..<entry.outputs.count { outputs[index] = lossd_tensor() }
    offsets.removeAll(keepingCapacity: true)
    overwrites.removeAll(keepingCapacity: true)
    stages.removeAll(keepingCapacity: true)
    stage = 0
    firstChunk = 0
    chunkEnd = 0
    nextChunk = 0
    outstanding = 0
  }

  func planDone(rows: Int, workspaceBytes: Int, scratchBytes: Int, cost: Double) {
    self.rows = rows
    self.workspaceBytes = workspaceBytes
    self.scratchBytes = scratchBytes
    self.cost = cost
  }

  func appendOffset(_ offset: Int) { offsets.append(offset) }
  func setOffset(_ position: Int, _ offset: Int) { offsets[position] = offset }
  func appendOverwrite(_ position: Int, _ input: Int) { overwrites.append((position, input)) }

  func setResultBytes(sent: Int, all: Int, layout: Int) {
    payloadBytes = sent
    resultBytes = all
    layoutBytes = layout
  }

  private func clearBytes(_ memory: UnsafeMutableRawPointer, _ count: Int) {
    if count > 0 { memory.initializeMemory(as: UInt8.self, repeating: 0, count: count) }
  }
}

/// Memory that a call has anyway, for results and work that fit into it.
///
/// `@unchecked Sendable`: it is its call's alone.
public struct SmallMemory: @unchecked Sendable {
  public var results: UnsafeMutableRawPointer
  public var resultBytes: Int
  public var workspace: AlignedBuffer
  /// Estimated work up to which it may be used, nanoseconds.
  public var costMax: Double

  public init(
    results: UnsafeMutableRawPointer, resultBytes: Int, workspace: AlignedBuffer, costMax: Double
  ) {
    self.results = results
    self.resultBytes = resultBytes
    self.workspace = workspace
    self.costMax = costMax
  }
}

extension AttributeArgument {
  var kindText: String {
    switch self {
    case .bool: "a bool"
    case .int: "an int"
    case .float: "a float"
    case .string: "a string"
    case .none: "without a value"
    }
  }

  static func kindText(_ type: UInt32) -> String {
    switch Int32(type) {
    case LOSSD_VALUE_BOOL: "a bool"
    case LOSSD_VALUE_INT: "an int"
    case LOSSD_VALUE_FLOAT: "a float or an int"
    default: "a string"
    }
  }
}

/// Client text made fit for an error message: at most 64 bytes, what is not printable ASCII as `?`.
func printable(_ bytes: UnsafeRawBufferPointer) -> String {
  let shown = bytes.prefix(64).map { (32..<127).contains($0) ? $0 : UInt8(ascii: "?") }
  return String(decoding: shown, as: UTF8.self) + (bytes.count > 64 ? "..." : "")
}

func list(_ names: [String]) -> String { names.isEmpty ? "none" : names.joined(separator: ", ") }
