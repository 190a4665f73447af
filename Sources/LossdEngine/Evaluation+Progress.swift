import CLossdPlugin
import LossdTensor

extension Evaluation {
  /// How far a planned call is: its memory, the chunks of the stage under way, sums, and how it
  /// went. Under the workers' lock while they have it.
  public struct Progress: ~Copyable {
    /// The sums over all chunks, once it has run.
    public internal(set) var accumulator = Accumulator()
    /// Everything has been computed: the results are there.
    public internal(set) var isComputed = false
    /// A worker adds up a stage's sums, or finishes.
    var isSettling = false
    var failure: (stage: Int, chunk: Int, error: StatusError)?

    /// Where the results go, once it is bound.
    var results: UnsafeMutableRawPointer?
    var workspace: AlignedBuffer?

    var stage = 0
    /// The chunks of the stage that may run now, and the next of them to hand out.
    var firstChunk = 0
    var chunkEnd = 0
    var nextChunk = 0
    var outstanding = 0

    /// The sums of the passes before, rounded, while a pass runs.
    let totals: UnsafeMutablePointer<Double>
    let values: UnsafeMutablePointer<Double>
    /// `ChunkSums.plain` of the thread that runs the whole call.
    let plain: UnsafeMutablePointer<Double>
    /// A stretch's sums of a function that merges by itself, one slot a chunk: several threads
    /// write different ones at the same time.
    private(set) var sumsBase: UnsafeMutablePointer<Double>
    private var sums = AlignedBuffer(count: 16 * MemoryLayout<Double>.stride)

    init(_ layout: inout CallLayout) {
      totals = layout.place(Int(LOSSD_ACCUMULATORS_MAX))
      values = layout.place(Int(LOSSD_VALUES_MAX))
      plain = layout.place(Int(LOSSD_ACCUMULATORS_MAX))
      plain.initialize(repeating: 0, count: Int(LOSSD_ACCUMULATORS_MAX))
      sumsBase = sums.base.assumingMemoryBound(to: Double.self)
    }

    /// Nothing has been done, and no memory is bound.
    mutating func begin() {
      workspace = nil
      results = nil
      failure = nil
      isSettling = false
      isComputed = false
    }

    /// Before the first stage.
    mutating func restart() {
      stage = 0
      firstChunk = 0
      chunkEnd = 0
      nextChunk = 0
      outstanding = 0
    }

    /// Zeroed slots for the sums of a stretch's chunks.
    mutating func prepareSums(_ count: Int) throws(StatusError) {
      let bytes = count * MemoryLayout<Double>.stride
      if bytes > sums.count {
        sums = try AlignedBuffer(reserving: bytes)
        sumsBase = sums.base.assumingMemoryBound(to: Double.self)
      }
      sumsBase.initialize(repeating: 0, count: count)
    }

    mutating func erase(_ entry: FunctionEntry, workspaceBytes: Int) {
      clearBytes(sums.base, sums.count)
      totals.initialize(repeating: 0, count: Int(LOSSD_ACCUMULATORS_MAX))
      accumulator.reset(entry)
      if let workspace { clearBytes(workspace.base, min(workspaceBytes, workspace.count)) }
    }
  }
}
