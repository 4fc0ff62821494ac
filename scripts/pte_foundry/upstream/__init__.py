"""Every patch of another library, and every use of its private names: one file each.

The rest of the library neither patches torch, torchao, executorch, coremltools and Snakemake nor
imports their private names; it calls the functions here. The docstring of each file gives the
version that it stands against, what it repairs or uses, and when it can be removed. Tests prove
that what it relies on is still there, and fail when the lock moves to another version.
``versions.assert_pinned`` compares the installed versions with the lock before a build and a step.

coremltools_batchnorm_pass (coremltools 9.0)
    Keeps a multiplication that repeats its channel. A program that cannot run otherwise.
coremltools_complex_views (coremltools 9.0)
    Converts the real view of a complex tensor. Such programs are refused otherwise.
coremltools_constant_comparison (coremltools 9.0)
    Compares equal constants piece by piece. 32 bytes for each of their values otherwise.
coremltools_default_arguments (coremltools 9.0)
    Fills in the arguments that a call leaves out. Such calls are refused otherwise.
coremltools_division (coremltools 9.0)
    Divides integers as integers. Wrong numbers in float16 otherwise.
coremltools_failing_operator (coremltools 9.0, executorch 1.5.1, torch 2.13.0)
    The operator that an upstream error is about. Messages without operator and line otherwise.
coremltools_gelu (coremltools 9.0)
    Converts gelu with the approximation that a call asks for. The exact function otherwise.
coremltools_imports (coremltools 9.0)
    Imports coremltools without the optional packages that it looks for. A third of a step's start.
coremltools_index_put (coremltools 9.0)
    Writes several places of a cache at once, also a dynamic number. Refused otherwise.
coremltools_int16_pass (coremltools 9.0)
    Keeps 32-bit integers that may not fit into 16 bits. Wrong numbers otherwise.
coremltools_lstm (coremltools 9.0)
    Keeps nn.LSTM whole. Ten operators for each step, layer and direction otherwise.
coremltools_noop_pass (coremltools 9.0)
    Keeps the floor of a division by one. Wrong numbers otherwise.
coremltools_operators (coremltools 9.0)
    The torch operators that coremltools' frontend can convert.
coremltools_pair_elimination (coremltools 9.0)
    Keeps a conversion between two types of integers. Layers whose range is zero fail otherwise.
coremltools_program_checks (coremltools 9.0)
    Validates a program once per pipeline, not once per pass. 15 to 30 % of a lowering.
coremltools_protobuf (coremltools 9.0)
    Core ML's protobuf classes without the rest of coremltools. 0.05 s instead of 7.6 s.
coremltools_reshape_pass (coremltools 9.0)
    Keeps a reshape between two different quantization scales. Wrong numbers otherwise.
coremltools_state_shapes (coremltools 9.0)
    Writes a window that slides by a dynamic number of rows into a state. Refused otherwise.
coremltools_twin_outputs (coremltools 9.0)
    Gives every output of a Core ML program a name of its own.
executorch_annotators (executorch 1.5.1)
    Annotates with our filters: upstream's match no exported program.
executorch_caches (executorch 1.5.1)
    Empties a cache that keeps lowered programs in memory.
executorch_debug_info (executorch 1.5.1)
    Keeps the debug info of models that methods share. No torch operators in reports otherwise.
executorch_edge_config (executorch 1.5.1)
    Accepts operators that are not core ATen but that Core ML or ExecuTorch has.
executorch_edge_operators (executorch 1.5.1)
    Replaces ATen operators by edge operators and back, to save edge programs.
executorch_enumerated_dtypes (executorch 1.5.1)
    Lets int64 inputs, as of tokens, have enumerated shapes.
executorch_kernels (executorch 1.5.1)
    The kernels of ExecuTorch's runtime. A program that calls another cannot be loaded.
executorch_partitioner (executorch 1.5.1)
    Leaves operators outside of Core ML by more than the name of the edge operator.
executorch_pte_format (executorch 1.5.1)
    Reads and writes whole ``.pte`` files.
executorch_quantizer_patterns (executorch 1.5.1, torchao 0.18.0)
    Exports only the quantization patterns that can match. A minute per model otherwise.
executorch_source_partitions (executorch 1.5.1, torch 2.13.0)
    Tells the calls of one module apart. Annotations depend on memory addresses otherwise.
executorch_to_edge (executorch 1.5.1)
    Skips a decomposition that would change nothing. A quarter of an edge program's time.
snakemake_configfile (snakemake 9.27.1)
    A hint if a target is taken for a config file.
snakemake_end (snakemake 9.27.1)
    Acts when a run ends, also one with nothing to do. What was asked for has no verdict otherwise.
snakemake_execution (snakemake 9.27.1)
    Where the jobs of a run are executed, and with which configuration.
snakemake_failed_records (snakemake 9.27.1)
    Keeps a failed job from passing for a success. Artifacts of an old config pass otherwise.
snakemake_locks (snakemake 9.27.1)
    Removes the locks of a killed Snakemake without reading the configuration.
snakemake_logger_option (snakemake 9.27.1)
    A target after ``--logger NAME`` is a target. An error after 160 lines of usage otherwise.
snakemake_messages (snakemake 9.27.1)
    Names the changed file in a job's reason, and tells a failed step in four lines.
snakemake_modules (snakemake 9.27.1)
    Where the files of a Snakemake module are, and its handlers, which Snakemake ignores.
snakemake_nested (snakemake 9.27.1)
    Runs the jobs of a group in turn, as the group's memory has been asked for.
snakemake_outcome (snakemake 9.27.1)
    Which jobs of a run failed, and what was not made because of that.
snakemake_output_cache (snakemake 9.27.1)
    Gives checked copies from the cache between workflows. Links, and damaged files, otherwise.
snakemake_plan (snakemake 9.27.1)
    Tells loggers the planned jobs and what they wait for. No estimate of the time left otherwise.
snakemake_rate_limiter (snakemake 9.27.1)
    Removes the limit of job starts per second. It takes a core after some hundred jobs.
snakemake_refusals (snakemake 9.27.1)
    Errors of the user are told without the lines of the Snakefile that raise them.
snakemake_slurm_status (snakemake 9.27.1, snakemake-executor-plugin-slurm 2.8.0)
    Waits for a Slurm controller that is away. The build hangs for ever otherwise.
snakemake_storage (snakemake 9.27.1)
    Keeps sources out of a run's default storage, and lets hooks read and write files there.
snakemake_storage_errors (snakemake 9.27.1, snakemake-interface-storage-plugins 4.4.1)
    Tells when a storage stops answering. A traceback otherwise.
snakemake_targets (snakemake 9.27.1)
    Checks what is asked for by path before planning, and locks the folder. Riddles otherwise.
torch_allocations (torch 2.13.0)
    The size of what an operator allocates, before it does. A hostile program takes all memory else.
torch_archives (torch 2.13.0)
    The records of an exported program, for checks before torch reads them. It runs code otherwise.
torch_caches (torch 2.13.0)
    Empties a cache that keeps programs in memory.
torch_causal_masks (torch 2.13.0)
    Exports transformer layers without looking at the values of their masks. Refused otherwise.
torch_decompositions (torch 2.13.0)
    Collects torch's composite operators once. A third of a small program's lowering.
torch_division (torch 2.13.0)
    Divides the smallest integer by -1. It ends the process otherwise.
torch_loaded_sizes (torch 2.13.0)
    Reads programs with computed sizes, 4 * Dim(...). They cannot be lowered otherwise.
torch_mkl_functions (torch 2.13.0)
    Square roots and inverse trigonometric functions with the same bits on every CPU.
torch_operator_samples (torch 2.13.0)
    torch's own sample inputs of its operators.
torch_operators (torch 2.13.0)
    Type, schema and name of an operator.
torch_quantized_operators (torch 2.13.0)
    Registers the operators of quantized programs.
torch_shared_weights (torch 2.13.0)
    Several programs in one archive, their equal weights once. Every method's weights otherwise.
torch_size_ranges (torch 2.13.0, executorch 1.5.1)
    Keeps the lower limit of a dynamic size. A batch of one is refused otherwise.
torchao_annotations (torchao 0.18.0)
    Whether a quantizer annotated a node.
torchao_codebook_solver (torchao 0.18.0)
    Replaces the k-means of codebook quantization by an exact and deterministic one.
torchvision_operators (torch 2.13.0, torchvision 0.28.0)
    Makes torchvision importable next to a CPU torch, and gives it ``nms``.
"""
