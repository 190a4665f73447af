import LossdClient
import LossdFiles
import LossdTensor
import LossdWire
import Synchronization

/// What one pass over the files leaves: files that wait for their names, and results that are one
/// number. Any task.
///
/// `@unchecked Sendable`: what changes is behind the lock.
final class BatchResults: @unchecked Sendable {
  private struct State {
    var summary = SummaryMessage(batches: 0, rows: 0)
    var writers: [String: NPYWriter] = [:]
    var scalars: [(name: String, file: String, type: DataType)] = []
    var progress: Progress
    var done = 0
  }

  private let saves: [(name: String, value: String)]
  private let state: Mutex<State>

  /// - Parameter rows: of the whole data set.
  init(_ saves: [(name: String, value: String)], rows: Int) {
    self.saves = saves
    state = Mutex(State(progress: Progress(rows: rows)))
  }

  /// What the data set came to: until a Summary says more, how many batches and rows there were.
  var summary: SummaryMessage { state.withLock { $0.summary } }

  /// The results of a batch of these rows are good: it counts. Once a batch.
  func count(_ result: Evaluated, of rows: Range<Int>) {
    state.withLock { state in
      state.done += rows.count
      state.summary.batches += 1
      state.summary.rows += UInt64(rows.count)
      state.progress.advance(to: state.done, loss: result["loss"]?.scalar)
    }
  }

  /// Writes the results of a batch of these rows, which it may have done before. Batches may come
  /// in any order.
  func write(_ result: Evaluated, of rows: Range<Int>) throws {
    try state.withLock { state in
      for (name, file) in saves {
        guard let tensor = result[name] else { continue }
        if tensor.shape.isEmpty {
          if !state.scalars.contains(where: { $0.file == file }) {
            state.scalars.append((name, file, tensor.dataType))
          }
          continue
        }
        guard tensor.shape[0] == rows.count else {
          throw Complaint(
            "\(name.shown): the daemon gave \(tensor.shape[0]) rows for a batch of \(rows.count)")
        }
        let writer =
          try state.writers[file]
          ?? NPYWriter(
            path: file, dataType: tensor.dataType, rowShape: Array(tensor.shape.dropFirst()))
        state.writers[file] = writer
        try writer.write(tensor, at: rows.lowerBound)
      }
    }
  }

  /// All batches have been added. `summary`: the daemon's, where there is one.
  func end(_ summary: SummaryMessage? = nil) {
    state.withLock { state in
      state.summary = summary ?? state.summary
      state.progress.end()
    }
  }

  /// Gives the files their names.
  func finish() throws {
    try state.withLock { state in
      for writer in state.writers.values { try writer.finish() }
      for (name, file, type) in state.scalars {
        guard let value = state.summary.values[name] else {
          throw Complaint("\(name) is a number a batch, which make none of the whole data set")
        }
        // Rounded once, like that of one call.
        let tensor: Tensor =
          switch type {
          case .float64: Tensor([value], shape: [])
          case .float16: Tensor([Float16(value)], shape: [])
          case .bfloat16: Tensor([BFloat16(value)], shape: [])
          default: Tensor([Float(value)], shape: [])
          }
        try NPYWriter.write(tensor, to: file)
      }
    }
  }
}
