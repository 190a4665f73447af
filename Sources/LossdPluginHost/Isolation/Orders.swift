import CLossdPlugin
import LossdEngine
import LossdTensor

/// What a daemon and a process that runs a plugin say to one another: one message of a socket each,
/// at most `bytesMax` long. Big tensors go beside them, in shared memory whose descriptors come
/// along.
///
/// The process has one call at a time: `evaluate` plans it and, where it is small, computes it;
/// `run` computes what was planned; `answer` says how either went. That a call is to stop is not a
/// message, which a process that computes does not read: it stands in memory that `configure`
/// brings, and so does what the process has begun with.
enum Order: UInt32 {
  // To the process.
  case configure = 1
  case evaluate = 2
  case run = 3
  case finish = 5
  case merge = 6
  /// A segment is not used any more.
  case forget = 7
  /// Stop the plugin and close its library, for nothing else will be asked.
  case close = 8
  // From it.
  case ready = 16
  case refused = 17
  case answer = 18
  /// Its library is closed.
  case closed = 19
  /// What could not be taken from the process, before it has opened the library: a
  /// `ConfinementGaps`.
  case confined = 20

  /// What stands for an order of a call, the greater the later.
  func mark(_ call: UInt64) -> UInt64 { call << 1 | (self == .run ? 1 : 0) }

  static let bytesMax = 128 << 10
  /// Tensors up to this, all together, go in the message.
  static let inlineBytesMax = 16 << 10
  /// Bytes of an error's text.
  static let textBytesMax = 4 << 10
  /// Results, workspace and scratch up to these need no second message.
  static let ownResultBytes = 4 << 10
  static let ownWorkspaceBytes = 16 << 10
  static let ownScratchBytes = 1 << 16
}

/// What kind of answer it is.
enum AnswerKind: UInt32 {
  /// Code and text follow.
  case failed = 0
  /// `run` is to follow. The plan.
  case planned = 1
  /// 1 and the plan, or 0; the sums of a function that merges by itself, the host's sums; the
  /// results where they are not in the segment that `run` gave.
  case computed = 2
  /// Of `finish`: a count of pairs, present or not, and the value.
  case values = 3
  /// Of `merge`: sums.
  case merged = 4
}

extension Packer {
  mutating func put(_ order: Order, _ call: UInt64) {
    put(order.rawValue)
    put(UInt32(0))
    put(call)
  }

  mutating func put(attribute value: lossd_value) {
    put(value.kind)
    switch Int32(truncatingIfNeeded: value.kind) {
    case LOSSD_VALUE_STRING:
      put(UnsafeRawBufferPointer(start: value.as.string, count: Int(value.length)))
    case LOSSD_VALUE_FLOAT: put(value.as.floating)
    default: put(value.as.integer)
    }
  }

  mutating func put(attributesOf evaluation: Evaluation) {
    for index in 0..<evaluation.entry.attributes.count {
      put(attribute: evaluation.request.attribute(index))
    }
  }

  mutating func put(_ values: [Double]) {
    put(UInt32(values.count))
    for value in values { put(value) }
  }

  mutating func put(_ accumulator: Accumulator) {
    put(accumulator.own)
    put(UInt32(accumulator.sums.count))
    for sum in accumulator.sums { sum.bytes.withUnsafeBytes { put($0) } }
  }

  mutating func put(planOf evaluation: Evaluation) {
    put(Int64(evaluation.plan.rows))
    put(UInt64(evaluation.plan.workspaceBytes))
    put(UInt64(evaluation.plan.scratchBytes))
    put(evaluation.plan.cost)
    put(UInt32(evaluation.request.wantedOutputs.count))
    for position in evaluation.request.wantedOutputs.indices {
      let output = evaluation.plannedOutput(position)
      put(output.data_type)
      put(output.flags)
      put(output.value_index)
      put(output.rank)
      withUnsafeBytes(of: output.shape) { shape in
        for dimension in 0..<Int(output.rank) {
          put(shape.load(fromByteOffset: 8 * dimension, as: Int64.self))
        }
      }
    }
  }

  // MARK: - Answers

  mutating func put(planned evaluation: Evaluation, _ call: UInt64) {
    put(Order.answer, call)
    put(AnswerKind.planned.rawValue)
    put(planOf: evaluation)
  }

  /// - Parameter results: nil: they are in the segment that `run` gave.
  mutating func put(
    computed evaluation: Evaluation, _ call: UInt64, bringsPlan: Bool,
    results: UnsafeMutableRawPointer?
  ) {
    put(Order.answer, call)
    put(AnswerKind.computed.rawValue)
    put(UInt32(bringsPlan ? 1 : 0))
    if bringsPlan { put(planOf: evaluation) }
    put(evaluation.progress.accumulator)
    let count = results == nil ? 0 : evaluation.plan.resultBytes
    put(UInt32(count))
    if count > 0, let results, let place = room(count, alignment: 64) {
      place.copyMemory(from: results, byteCount: count)
    }
  }

  mutating func put(failure error: StatusError, _ call: UInt64) {
    put(Order.answer, call)
    put(AnswerKind.failed.rawValue)
    put(error)
  }

  mutating func put(_ error: StatusError) {
    put(error.code.rawValue)
    put(error.message)
  }
}

extension Unpacker {
  mutating func takeAttribute() -> AttributeArgument {
    switch Int32(truncatingIfNeeded: take(UInt32.self)) {
    case LOSSD_VALUE_BOOL: return .bool(take(Int64.self) != 0)
    case LOSSD_VALUE_INT: return .int(take())
    case LOSSD_VALUE_FLOAT: return .float(take())
    case LOSSD_VALUE_STRING: return .string(takeData())
    default:
      _ = take(Int64.self)
      return .none
    }
  }

  /// nil: it is none of a function's.
  mutating func takeAccumulator(of entry: FunctionEntry) -> Accumulator? {
    let own = takeDoubles()
    let sums = (0..<takeCount(4, max: Int(LOSSD_ACCUMULATORS_MAX))).map { _ in
      ExactSum(takeData())
    }
    let known = sums.compactMap { $0 }
    let accumulator = known.isEmpty ? Accumulator(own: own) : Accumulator(sums: known)
    return known.count == sums.count && accumulator.belongs(to: entry) ? accumulator : nil
  }

  mutating func takeDoubles() -> [Double] { (0..<takeCount(8)).map { _ in take() } }

  /// What `put(planOf:)` wrote, into an evaluation of the same request.
  mutating func takePlan(into evaluation: Evaluation) throws(StatusError) {
    let rows: Int64 = take()
    let workspaceBytes: UInt64 = take()
    let scratchBytes: UInt64 = take()
    let cost: Double = take()
    var outputs: [lossd_planned_output] = []
    for _ in 0..<takeCount(16, max: Int(LOSSD_OUTPUTS_MAX)) {
      var output = lossd_planned_output()
      output.data_type = take()
      output.flags = take()
      output.value_index = take()
      output.rank = UInt32(takeCount(8, max: Int(LOSSD_RANK_MAX)))
      for dimension in 0..<Int(output.rank) {
        let size: Int64 = take()
        withUnsafeMutableBytes(of: &output.shape) {
          $0.storeBytes(of: size, toByteOffset: 8 * dimension, as: Int64.self)
        }
      }
      outputs.append(output)
    }
    if isBroken {
      throw StatusError(.internal, "the plugin's process sent a plan that cannot be read")
    }
    try evaluation.adoptPlan(
      rows: rows, workspaceBytes: workspaceBytes, scratchBytes: scratchBytes, cost: cost,
      outputs: outputs)
  }

  mutating func takeError() -> StatusError {
    let code = StatusCode(rawValue: take()) ?? .internal
    let text = PluginLog.harmless(takeData().prefix(Order.textBytesMax))
    return StatusError(code == .ok ? .internal : code, text)
  }
}
