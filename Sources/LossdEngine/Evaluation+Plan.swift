import CLossdPlugin
import LossdTensor

/// Chunks that depend on none of each other: one pass, or the host's own work.
struct Stage {
  enum Work {
    /// The host copies an input, in bytes, before anything looks at it.
    case copyInput(Int)
    /// The host checks that an input's bools are 0 or 1.
    case checkBools(Int)
    /// The host clears the results, in bytes.
    case clearResults
    /// The function's pass of this number, in its units.
    case functionPass(Int)
  }

  var work: Work
  var units: Int
  var unitsPerChunk: Int
  var chunks: Int
}

/// How work is cut. Chunks depend on plan's numbers alone, never on the machine or its load, so
/// that results are the same bits everywhere.
enum Chunking {
  /// What a chunk aims at, nanoseconds: small enough that a call behind it waits under a
  /// millisecond.
  static let chunkCost = 400_000.0
  /// A unit counts as this much at least, nanoseconds: a plan that calls its units free does not
  /// make one endless chunk.
  static let unitCostMin = 0.01
  /// Chunks that run before their sums are added to those before: the memory for sums is bounded,
  /// and a chunk's length need not be. They are added in the order of the chunks, so that the bits
  /// of a sum do not depend on this number.
  static let stretch = 1 << 12
  static let clearedBytesPerChunk = 1 << 20
  /// So few are not worth a stage of their own.
  static let clearedAtOnceMax = 1 << 14

  static func unitsPerChunk(units: Int, unitCost: Double) -> Int {
    // At most 4e7: the quotient is a number that an Int holds.
    var count = min(units, Int(max(1, chunkCost / max(unitCost, unitCostMin))))
    // Many small units: whole multiples of 64, so that no two chunks write one cache line.
    if count >= 64 { count = count / 64 * 64 }
    return max(count, 1)
  }

  /// How many chunks so many units make.
  static func chunks(_ units: Int, _ unitsPerChunk: Int) -> Int {
    units / unitsPerChunk + (units % unitsPerChunk == 0 ? 0 : 1)
  }
}

extension Evaluation {
  /// Checks the request against the declarations and asks the function for its plan.
  public func makePlan() throws(StatusError) {
    try request.checkRequired()
    clearPlan()
    var error = FunctionEntry.noError()
    let code = entry.plan(request.call, plan.answer, &error)
    guard code == LOSSD_OK else { throw StatusError(entry.name, code, error) }
    try plan.believe(request)
  }

  func clearPlan() {
    plan.clear(entry)
    for index in 0..<entry.outputs.count { request.outputs[index] = lossd_tensor() }
    progress.restart()
  }

  /// What a function has planned for a request, once it has been checked. It stays as it is while
  /// the call runs.
  public struct Plan: ~Copyable {
    static let resultBytesMax = Int(UInt32.max)
    /// Between, before and behind the results of a library's function: what is written there is
    /// noticed.
    static let fenceBytes = 64

    /// Samples in this batch.
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
    /// Results that take the place of an input: their places in the request, and the inputs'.
    public private(set) var overwrites: [(position: Int, input: Int)] = []
    /// Of the wanted results, in the order of the request.
    private(set) var offsets: [Int] = []
    private(set) var stages: [Stage] = []
    /// Outputs are cleared when they get their memory.
    private(set) var clearsAtBind = false

    /// What the function answers.
    let answer: UnsafeMutablePointer<lossd_plan>
    private(set) var planned: UnsafeMutablePointer<lossd_planned_output>
    private var plannedCapacity = 4
    /// The function's, from its plan to its last chunk. In malloc's heap: what a library writes
    /// behind its state is then seen by malloc, in time to say whom to suspect.
    let state: UnsafeMutableRawPointer

    init(_ layout: inout CallLayout) {
      answer = layout.place(1)
      answer.initialize(to: lossd_plan())
      planned = .allocate(capacity: plannedCapacity)
      state = .allocate(byteCount: Int(LOSSD_STATE_BYTES_MAX), alignment: 64)
    }

    deinit {
      planned.deallocate()
      state.deallocate()
    }

    mutating func reserve(outputs count: Int) {
      guard count > plannedCapacity else { return }
      planned.deallocate()
      plannedCapacity = count
      planned = .allocate(capacity: count)
    }

    mutating func clear(_ entry: FunctionEntry) {
      clearBytes(state, Int(entry.function.pointee.state_bytes))
      planned.initialize(repeating: lossd_planned_output(), count: max(entry.outputs.count, 1))
      answer.pointee = lossd_plan()
      answer.pointee.struct_size = UInt32(MemoryLayout<lossd_plan>.size)
      answer.pointee.outputs = planned
      offsets.removeAll(keepingCapacity: true)
      overwrites.removeAll(keepingCapacity: true)
      stages.removeAll(keepingCapacity: true)
    }

    func erase(_ entry: FunctionEntry) {
      clearBytes(state, Int(entry.function.pointee.state_bytes))
      planned.initialize(repeating: lossd_planned_output(), count: plannedCapacity)
    }

    mutating func believe(_ request: borrowing Request) throws(StatusError) {
      let entry = request.entry
      let cleared = try layOutResults(request)
      var cost = addCopies(request) + addBoolChecks(request)
      clearsAtBind = cleared > 0 && layoutBytes <= Chunking.clearedAtOnceMax
      if cleared > 0 && !clearsAtBind {
        // Clearing goes over all results in pieces; outputs that need none are skipped.
        let piece = Chunking.clearedBytesPerChunk
        stages.append(
          Stage(
            work: .clearResults, units: layoutBytes, unitsPerChunk: piece,
            chunks: Chunking.chunks(layoutBytes, piece)))
        cost += Double(cleared) * 0.1
      }
      guard answer.pointee.pass_count <= UInt32(LOSSD_PASSES_MAX) else {
        throw entry.lie("planned \(answer.pointee.pass_count) passes")
      }
      for pass in 0..<Int(answer.pointee.pass_count) {
        let planned = plannedPass(pass)
        guard planned.units >= 0, planned.unit_cost_ns.isFinite, planned.unit_cost_ns >= 0 else {
          throw entry.lie("planned \(planned.units) units of \(planned.unit_cost_ns) ns")
        }
        let units = Int(planned.units)
        if units == 0 { continue }
        let size = Chunking.unitsPerChunk(units: units, unitCost: planned.unit_cost_ns)
        stages.append(
          Stage(
            work: .functionPass(pass), units: units, unitsPerChunk: size,
            chunks: Chunking.chunks(units, size)))
        // 2^62 units of nothing are no plan either: each costs a nanosecond at least.
        cost += Double(units) * max(planned.unit_cost_ns, 1)
      }
      // size_t is imported as a signed number.
      let bounds = PlanBounds(
        rows: answer.pointee.rows,
        workspaceBytes: UInt64(UInt(bitPattern: answer.pointee.workspace_bytes)),
        scratchBytes: UInt64(UInt(bitPattern: answer.pointee.scratch_bytes)), cost: cost)
      try accept(bounds, request)
    }

    /// Checks the outputs that were planned and gives each its place. Returns how many
    /// bytes are to be cleared.
    mutating func layOutResults(_ request: borrowing Request) throws(StatusError) -> Int {
      let entry = request.entry
      let fence = entry.isForeign ? Plan.fenceBytes : 0
      var offset = 0
      var cleared = 0
      for (position, index) in request.wantedOutputs.enumerated() {
        let answer = (planned + index).pointee.header
        var name: String { String(cString: entry.outputs[index].name) }
        guard let type = DataType(rawValue: answer.data_type), answer.rank <= UInt32(LOSSD_RANK_MAX)
        else { throw entry.lie("planned no type or rank for \(name)") }
        let shape = shapePointer(index)
        let sizes = UnsafeBufferPointer(start: shape, count: Int(answer.rank))
        guard let count = checkedElementCount(sizes, byteSize: type.byteSize) else {
          throw entry.impossibleShape(name, type, sizes)
        }
        if answer.flags & UInt32(LOSSD_PLANNED_REDUCED) != 0 {
          guard answer.rank == 0, Int(answer.value_index) < entry.valueCount, type.isFloatingPoint
          else { throw entry.lie("planned a wrong reduced output \(name)") }
        }
        request.outputs[index] = lossd_tensor(
          data: nil, shape: UnsafePointer(shape), element_count: Int64(count), rank: answer.rank,
          data_type: answer.data_type)
        let bytes = count * type.byteSize
        if let placement = request.placements.first(where: { $0.position == position }) {
          guard placement.count == bytes else {
            throw entry.invalid(
              "\(name): the place for it has \(placement.count) bytes, the result has \(bytes)")
          }
          offsets.append(0)
          if isCleared(index, entry) { cleared += bytes }
          continue
        }
        if let input = overwritable(index, type, request) {
          overwrites.append((position, input))
          offsets.append(0)
          continue
        }
        offset = (offset + fence + 63) & ~63
        offsets.append(offset)
        guard bytes <= Plan.resultBytesMax, offset + bytes <= Plan.resultBytesMax else {
          throw StatusError(
            .resourceExhausted,
            "\(entry.name): the results take more than \(Plan.resultBytesMax) bytes")
        }
        offset += bytes
        if isCleared(index, entry) { cleared += bytes }
      }
      resultBytes = offset + fence
      // Behind the results' memory, as the response's payload has them.
      for (position, input) in overwrites {
        offset = (offset + 63) & ~63
        offsets[position] = offset
        offset += Request.byteCount(request.inputs[input])
        guard offset <= Plan.resultBytesMax else {
          throw StatusError(
            .resourceExhausted,
            "\(entry.name): the results take more than \(Plan.resultBytesMax) bytes")
        }
      }
      payloadBytes = offset
      // Nobody's payload, but clearing counts through them.
      for placement in request.placements {
        offset = (offset + 63) & ~63
        offsets[placement.position] = offset
        offset += placement.count
      }
      layoutBytes = offset
      return cleared
    }

    /// The input whose place an output takes: where the function declares it safe, the input is
    /// this call's alone and of the output's very type and shape, and no other output has taken it.
    private func overwritable(
      _ index: Int, _ type: DataType, _ request: borrowing Request
    ) -> Int? {
      let input = Int(request.entry.outputs[index].may_overwrite)
      guard input >= 0, request.ownInputs & (1 << UInt64(input)) != 0,
        (planned + index).pointee.flags
          & UInt32(LOSSD_PLANNED_ZEROED | LOSSD_PLANNED_REDUCED | LOSSD_PLANNED_SEPARATE) == 0,
        request.inputs[input].data_type == type.rawValue,
        request.inputs[input].rank == request.outputs[index].rank,
        !overwrites.contains(where: { $0.input == input })
      else { return nil }
      for dimension in 0..<Int(request.outputs[index].rank)
      where request.inputs[input].shape[dimension] != request.outputs[index].shape[dimension] {
        return nil
      }
      return input
    }

    /// Whether the host clears this output before any chunk runs: where the plan says so, and for a
    /// library's function always, so that what it leaves unwritten is nobody else's data.
    func isCleared(_ index: Int, _ entry: FunctionEntry) -> Bool {
      entry.isForeign || (planned + index).pointee.flags & UInt32(LOSSD_PLANNED_ZEROED) != 0
    }

    /// Reads once what may change at any time. Returns its cost, nanoseconds.
    private mutating func addCopies(_ request: borrowing Request) -> Double {
      var cost = 0.0
      for (index, _) in request.copies {
        let count = Request.byteCount(request.inputs[index])
        if count == 0 { continue }
        let piece = Chunking.clearedBytesPerChunk
        stages.append(
          Stage(
            work: .copyInput(index), units: count, unitsPerChunk: piece,
            chunks: Chunking.chunks(count, piece)))
        cost += Double(count) * 0.1
      }
      return cost
    }

    /// A bool is 0 or 1, and nothing a client sends is believed: a stage of its own, since it reads
    /// all of the tensor. Returns its cost, nanoseconds.
    private mutating func addBoolChecks(_ request: borrowing Request) -> Double {
      var cost = 0.0
      for index in 0..<request.entry.inputs.count
      where request.inputs[index].data_type == DataType.bool.rawValue {
        let count = Int(request.inputs[index].element_count)
        if count == 0 { continue }
        let piece = Chunking.clearedBytesPerChunk
        stages.append(
          Stage(
            work: .checkBools(index), units: count, unitsPerChunk: piece,
            chunks: Chunking.chunks(count, piece)))
        cost += Double(count) * 0.2
      }
      return cost
    }

    private func shapePointer(_ index: Int) -> UnsafePointer<Int64> {
      let offset = MemoryLayout<lossd_planned_output>.offset(of: \.shape) ?? 16
      return UnsafeRawPointer(planned + index).advanced(by: offset)
        .assumingMemoryBound(to: Int64.self)
    }

    private func plannedPass(_ pass: Int) -> lossd_planned_pass {
      withUnsafeBytes(of: answer.pointee.passes) {
        $0.load(
          fromByteOffset: pass * MemoryLayout<lossd_planned_pass>.stride,
          as: lossd_planned_pass.self)
      }
    }

    /// Takes a plan's amounts over. INTERNAL where no honest plan has them; RESOURCE_EXHAUSTED
    /// where the call costs more than one may.
    mutating func accept(
      _ bounds: PlanBounds, _ request: borrowing Request
    ) throws(StatusError) {
      let entry = request.entry
      guard bounds.cost.isFinite, bounds.cost >= 0,
        bounds.cost <= PlanBounds.costMax || !entry.isForeign
      else {
        throw entry.lie("planned \(bounds.cost) ns of work")
      }
      let limit = Evaluation.callCostMax
      guard limit == 0 || bounds.cost <= Double(limit) else {
        throw StatusError(
          .resourceExhausted,
          "\(entry.name): the call takes about \(bounds.cost) ns of one core, over the limit of "
            + "\(limit) ns "
            + "(limits.call_cost)")
      }
      guard bounds.rows >= 0,
        bounds.rows <= PlanBounds.rowsMax || request.hasEmptyInput(ofSize: bounds.rows),
        bounds.workspaceBytes <= PlanBounds.workspaceBytesMax,
        bounds.scratchBytes <= PlanBounds.scratchBytesMax
      else { throw entry.lie("planned impossible amounts of memory or rows") }
      rows = Int(min(bounds.rows, PlanBounds.rowsMax))
      workspaceBytes = Int(bounds.workspaceBytes)
      scratchBytes = Int(bounds.scratchBytes)
      cost = bounds.cost
    }
  }
}

extension lossd_planned_output {
  /// All but the shape, which is half a kilobyte.
  fileprivate var header: (data_type: UInt32, rank: UInt32, flags: UInt32, value_index: UInt32) {
    @inline(__always) get { (data_type, rank, flags, value_index) }
  }
}
